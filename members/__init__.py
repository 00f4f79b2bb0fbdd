"""The members: their protocol, their hosts, and the time budget they run under."""
