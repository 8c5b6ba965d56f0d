"""One file for each job, each also a sub-command of `vanilla-transformer`; `support` is what they share."""
