#!/bin/bash
#SBATCH --job-name=robustsearch-tiny
#SBATCH --comment=robustsearch-12e7b4af
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=a100:4
#SBATCH --mem=200G
#SBATCH --time=24:00:00
#SBATCH --partition=gpu
#SBATCH --account=robust
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --qos=preempt

# Slurm makes no folder for a log.
mkdir -p -- '/shared/my runs/tiny/carrier' && exec >>'/shared/my runs/tiny/carrier'/slurm-"$SLURM_JOB_ID".log 2>&1

# The lines of `setup` in the cluster file.
source /shared/venv/bin/activate

RS_TEMP=/local
RS_MARK='/shared/my runs/tiny/carrier/nodes'
RS_THREADS=4
RS_START_TIMEOUT=600
RS_REQUEUES=5
RS_CPUS=${SLURM_CPUS_PER_TASK:-1}
RS_WORDS=(--wait 120 --allow-change)
study() {
    cat <<'END_OF_STUDY'
name: tiny
END_OF_STUDY
}
cluster() {
    cat <<'END_OF_CLUSTER'
kind: address
cpus_per_trial: 4
gpus_per_trial: 0.5
nodes: 4
storage: /shared/my runs
END_OF_CLUSTER
}

