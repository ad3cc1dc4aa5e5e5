"""What can be asked: read models folded from the log, which import no port and so cannot act."""
