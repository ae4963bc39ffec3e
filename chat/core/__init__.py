"""Values that the packages exchange: conversation, request, events; and the protocol of what answers."""
