"""The way back: today's form of old files, and prototxt and caffemodel of a converted network."""
