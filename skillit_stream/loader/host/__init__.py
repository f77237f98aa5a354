"""What mends or works around Streaming 0.13, so that it can be deleted one day; its private names are here alone.

:mod:`.dataset` prepares shards so that a failure is everybody's error and nobody's wait; :mod:`.construction` builds a
StreamingDataset in time of its shards; :mod:`.job_rank` finds which rank a process is; :mod:`.shared_memory` names,
holds and clears up shared memory; :mod:`.fetch` fetches ahead; :mod:`.unfinished` removes what killed downloads leave.
"""
