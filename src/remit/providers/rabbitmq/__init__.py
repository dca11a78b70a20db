"""How is a RabbitMQ server administrated and logged in to? Its management API, and a login over AMQP by pika.

pika is imported when the first login is tried, never at import. Below: `kernel`.
"""
