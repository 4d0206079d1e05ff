"""Commands that look after a storage: doctor, repair, gc."""

from __future__ import annotations

import click

from search.cli.root import Command, answer, examples, name_argument, storage_options
from search.files.messages import failed, say
from search.store.catalogue import DEFAULT_STORAGE
from trainables.core.errors import ExitCode


@click.command(cls=Command, epilog=examples("doctor", "doctor --cluster clusters/gpu.yaml", "doctor quickstart"))
@click.argument("name", required=False)
@click.option("--cluster", metavar="FILE", help="A cluster file to check [default: this machine].")
@storage_options
def doctor(name: str | None, cluster: str | None, storage: str | None, as_json: bool) -> int:
    """Check what a launch needs on this machine, or the files of one study for damage.

    Without NAME: packages, devices, data sets, the storage, and the cluster. With NAME: the records of that study, and
    its stored weights.
    """
    from search.cli.console import show_findings
    from search.launch import doctor as checks

    if name is not None and cluster is not None:
        raise click.UsageError("give NAME or --cluster, not both: doctor checks a study or a cluster")
    findings = checks.examine(cluster, storage) if name is None else checks.examine_study(name, storage)
    reasons = [finding.message for finding in findings if finding.level == "fail"]
    code = (ExitCode.CLUSTER if name is None else ExitCode.STORAGE) if reasons else ExitCode.DONE
    facts = {"findings": [finding.plain() for finding in findings], **failed("; ".join(reasons), code)}
    answer(as_json, facts, lambda: show_findings(findings))
    return code


@click.command(cls=Command, epilog=examples("repair quickstart"))
@name_argument
@click.option("--plugins", is_flag=True, help="Import the study's plug-ins, to rebuild records of trials with them.")
@storage_options
def repair(name: str, plugins: bool, storage: str | None, as_json: bool) -> int:
    """Repair a damaged study from the files that are intact.

    Damaged records are renamed, never deleted.
    """
    from search.store.catalogue import study_storage
    from search.store.repair import repair as restore
    from trainables.store.storage import Storage

    found = restore(study_storage(Storage(storage or DEFAULT_STORAGE), name), plugins=plugins)
    facts = {"study": name, **found.plain(), **failed(found.summary, found.exit_code)}
    answer(as_json, facts, lambda: say("\n".join([*found.lines(), found.summary])))
    return found.exit_code


@click.command(cls=Command, epilog=examples("gc quickstart --dry-run"))
@name_argument
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, and delete nothing.")
@storage_options
def gc(name: str, dry_run: bool, storage: str | None, as_json: bool) -> None:
    """Delete stored stages that neither an unfinished trial nor a point on or near the front needs.

    Temporary files and the like that killed processes left are deleted too. Links and their targets stay.
    """
    from search.results.candidates import needed_stages
    from search.store import catalogue, driver_lock, leftovers
    from search.store.gc import StageCollector
    from search.store.records import Records
    from trainables.store.storage import Storage

    study = catalogue.study_storage(Storage(storage or DEFAULT_STORAGE), name)
    with driver_lock.acquire(study):
        records = Records.open(study)
        collector = StageCollector(records, lambda: needed_stages(records.spec, records.trials()))
        swept = collector.sweep(dry=dry_run)
        if not dry_run:
            leftovers.sweep(study)
    facts = {"study": name, "dry_run": dry_run, **swept.plain()}
    answer(as_json, facts, lambda: say(f"{name}: {swept.says('would drop' if dry_run else 'dropped')}"))
