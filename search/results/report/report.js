"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));
  const make = (name, text, parent) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const paper = "rgba(0,0,0,0)";
  const family = "system-ui, 'Segoe UI', Roboto, sans-serif";

  // Charts.
  function layoutOf(figure, small) {
    const axis = { automargin: true, exponentformat: "power", zeroline: false, gridcolor: "#e6e8eb", linecolor: "#8c959f", ticks: "outside", ticklen: 3 };
    const keyed = figure.data.length > 1 && figure.data.some((trace) => trace.showlegend !== false);
    const merged = {
      font: { family, size: 12.5 }, paper_bgcolor: paper, plot_bgcolor: paper, hovermode: "closest", autosize: true,
      margin: { l: 48, r: 16, t: 26, b: keyed ? 78 : 44 }, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 11.5 } },
      modebar: { bgcolor: paper, color: "#8c959f", activecolor: "#0072b2" },
      hoverlabel: { bgcolor: "#ffffff", bordercolor: "#8c959f", align: "left", font: { family, size: 12, color: "#1f2328" } },
      ...structuredClone(figure.layout),
    };
    for (const name of Object.keys(merged).filter((key) => /^[xy]axis\d*$/.test(key))) merged[name] = { ...axis, ...merged[name], title: { standoff: 8, ...(merged[name].title || {}) } };
    if (small) merged.margin = { l: 44, r: 8, t: 14, b: 40 };
    if (touch) merged.dragmode = false;
    return merged;
  }
  const config = { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  function draw(place) {
    const figure = data.figures[place.dataset.figure];
    const small = place.closest(".grid") !== null;
    Plotly.react(place, structuredClone(figure.data), layoutOf(figure, small), config);
    if (place.dataset.listens) return;
    place.dataset.listens = "yes";
    place.on("plotly_click", (event) => {
      const id = event.points.map((point) => point.customdata).find((custom) => custom !== undefined);
      if (id !== undefined) choose(id, true);
    });
  }
  const places = all(".plot");
  if (places.length) places.forEach(draw);
  all("select[data-for]").forEach((select) => {
    const place = document.getElementById(select.dataset.for);
    select.addEventListener("change", () => {
      place.dataset.figure = select.value;
      draw(place);
    });
  });

  // Print: charts as wide as the paper, and all those of which the screen shows one at a time.
  let printing = false;
  window.addEventListener("beforeprint", () => {
    printing = true;
    for (const place of places) {
      const size = place.closest(".grid") ? [300, 250] : [860, Math.min(place.clientHeight || 400, 560)];
      Plotly.relayout(place, { width: size[0], height: size[1], autosize: false });
      place.style.aspectRatio = `${size[0]} / ${size[1]}`;
      all(".main-svg", place).forEach((svg) => svg.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`));
    }
  });
  window.addEventListener("beforeprint", () => all(".copy").forEach((place) => {
    const figure = data.figures[place.dataset.figure];
    const layout = { ...layoutOf(figure, false), width: 430, height: 320, autosize: false };
    Plotly.newPlot(place, structuredClone(figure.data), layout, { staticPlot: true });
    all(".main-svg", place).forEach((svg) => svg.setAttribute("viewBox", "0 0 430 320"));
  }));
  window.addEventListener("afterprint", () => {
    all(".copy").forEach((place) => Plotly.purge(place));
    for (const place of places) {
      place.style.aspectRatio = "";
      all(".main-svg", place).forEach((svg) => svg.removeAttribute("viewBox"));
      Plotly.relayout(place, { width: null, height: null, autosize: true });
    }
    printing = false;
  });
  const resized = new ResizeObserver((entries) => {
    if (printing) return;
    for (const { target } of entries) if (Math.abs(target.clientWidth - target._fullLayout.width) > 1) Plotly.Plots.resize(target);
  });
  places.forEach((place) => resized.observe(place));

  // The panel of a point and its trial.
  const panel = document.getElementById("panel");
  const index = new Map((data.points ? data.points.rows : []).map((row) => [row[0], row]));
  const record = (id) => {
    const row = index.get(id);
    if (!row) return undefined;
    const [point, trial, status, flags, values] = row;
    const facts = data.points.names.map((name, at) => [name, values[at]]).filter(([, text]) => text !== null);
    return { point, trial, status, flags, facts };
  };
  function choose(id, focus) {
    const point = record(id);
    all("tr.chosen").forEach((row) => row.classList.remove("chosen"));
    if (!point || !panel) return;
    all("tr[data-point]").filter((row) => row.dataset.point === id).forEach((row) => row.classList.add("chosen"));
    panel.replaceChildren();
    make("h3", `${point.point} of trial ${point.trial}`, panel);
    if (point.status !== "ok" || point.flags) make("p", `${point.status}: ${point.flags}`, panel).className = "warn";
    const list = make("dl", undefined, panel);
    for (const [name, text] of point.facts) {
      make("dt", name, list);
      make("dd", text, list);
    }
    const siblings = data.points.rows.filter((row) => row[1] === point.trial).map((row) => row[0]);
    if (siblings.length > 1) {
      make("p", "All points of this trial:", panel).className = "soft";
      for (const other of siblings) {
        const button = make("button", other, panel);
        button.type = "button";
        button.disabled = other === id;
        button.addEventListener("click", () => choose(other, false));
      }
    }
    make("p", "Write this network:", panel).className = "soft";
    make("code", `robustsearch model ${data.study} ${point.point} --output my-net`, panel);
    try { history.replaceState(null, "", `#${encodeURIComponent(id)}`); } catch { /* some browsers refuse it for files */ }
    if (focus && panel.getBoundingClientRect().top > window.innerHeight) panel.scrollIntoView({ block: "nearest" });
    if (focus && panel.getBoundingClientRect().bottom < 0) panel.scrollIntoView({ block: "nearest" });
  }
  all("tr[data-point]").forEach((row) => row.addEventListener("click", () => choose(row.dataset.point, true)));
  const asked = decodeURIComponent(location.hash.slice(1));
  if (index.has(asked)) choose(asked, false);
  else if (data.chosen) choose(data.chosen, false);

  // Tables that sort.
  const number = (text) => {
    const fraction = /^(\d+)\/(\d+)$/.exec(text.trim());
    if (fraction) return fraction[1] / fraction[2];
    return /^\s*[-+]?[\d.]/.test(text) ? parseFloat(text) : NaN;
  };
  function sort(heading, table) {
    const column = heading.cellIndex;
    const descending = heading.getAttribute("aria-sort") !== "descending";
    all("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = all("tbody tr", table).map((row) => [row.cells[column].textContent, row]);
    const sign = descending ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) === Number.isNaN(y) ? sign * a.localeCompare(b, "en") : Number.isNaN(x) ? 1 : -1;
      return sign * (x - y);
    };
    rows.sort((a, b) => compare(a[0], b[0]));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }
  all("th button").forEach((button) => button.addEventListener("click", () => sort(button.closest("th"), button.closest("table"))));

  // Copy buttons.
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const area = make("textarea", undefined, document.body);
      area.value = text;
      area.select();
      const copied = document.execCommand("copy");
      area.remove();
      return copied;
    }
  }
  all("button[data-copy]").forEach((button) => {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const copied = await copy(data.copies[button.dataset.copy]);
      button.textContent = copied ? "copied" : "the browser refused";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  });

  // A page that refreshes itself keeps what was opened.
  const kept = "robustsearch.open";
  const remember = () => {
    const state = { open: all("details[open]").map((each) => each.id), selects: all("select[data-for]").map((each) => [each.id, each.value]) };
    try { sessionStorage.setItem(kept, JSON.stringify(state)); } catch { /* nothing is kept then */ }
  };
  if (data.refresh) {
    try {
      const state = JSON.parse(sessionStorage.getItem(kept) || "{}");
      for (const id of state.open || []) document.getElementById(id)?.setAttribute("open", "");
      for (const [id, value] of state.selects || []) {
        const select = document.getElementById(id);
        if (select && all("option", select).some((option) => option.value === value)) {
          select.value = value;
          select.dispatchEvent(new Event("change"));
        }
      }
    } catch { /* nothing was kept */ }
    setTimeout(() => { remember(); location.reload(); }, 1000 * data.refresh);
  }
  document.documentElement.dataset.ready = "yes";
})();
