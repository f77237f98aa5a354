"""What lies on disk, its writer and its reader in one file each.

:mod:`.manifest` is ``skills.json`` of a streams folder, :mod:`.run_log` ``mixture.jsonl`` of a run folder,
:mod:`.applied` what `skillit apply` asks of a run and what the run has taken,
:mod:`.fork_result` what `skillit fork` has found,
:mod:`.sample_losses` the losses of a stream's samples beside it, :mod:`.remote_folder` the small files of a streams
folder in an object store.
"""
