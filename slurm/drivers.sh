#!/bin/bash
# Several drivers on one store share the runs of a study, each in a job of its own:
#
#   sbatch --array=0-7 slurm/drivers.sh deit --profile tiny --results-dir /shared/results
#
# What follows the script's name goes to `python -m vitlib run`; PYTHON says which Python, else it is the one on PATH. Options of sbatch
# win over those below. `python -m vitlib slurm` writes such a script with sizes for the runs that are missing; docs/cluster.md tells more.

#SBATCH --job-name=vitlib
#SBATCH --array=0-3
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=4:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue --open-mode=append
#SBATCH --output=vitlib-%A_%a.log

# Some time before the limit this script is sent USR1, and passes it on: the driver writes the checkpoint of the run that it is at and
# ends with status 3, and the job goes back into the queue, to go on from there. After `scancel` (TERM) it does not.

"${PYTHON:-python}" -m vitlib run --executor inline "$@" &
driver=$!
told= cancelled=
trap 'told=yes; kill -USR1 "$driver"' USR1
trap 'cancelled=yes; kill -TERM "$driver"' TERM

while kill -0 "$driver" 2>/dev/null; do
    wait "$driver" # a signal ends it early
done
wait "$driver"
status=$?

if [ "$told" ] && [ "$status" -gt 128 ]; then
    status=3 # it was told before it had begun to listen
fi
if [ "$status" -eq 3 ] && [ -z "$cancelled" ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
