"""What a test does with a jail's network, once its sockets can be had: dial into it, publish its ports, join several, and break what joins them."""
