"""Why a score is what it is: replays, the copies of the past, what each label does."""
