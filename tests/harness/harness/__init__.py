"""What the tests share: a real nats-server, the stand-ins and the whole stack on free ports."""
