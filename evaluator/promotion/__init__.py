"""From verdicts to changes of the suite: one at a time, in the order of what they are expected to gain."""
