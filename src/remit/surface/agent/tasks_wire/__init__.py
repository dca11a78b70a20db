"""Wire messages of the task service, generated from `tasks.proto`.

Evolution: fields are added under new numbers, never renamed, renumbered or reused; a removed number is reserved.
"""
