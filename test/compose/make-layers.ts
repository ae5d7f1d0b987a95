/** For bin/prepare: makes the layers that take the network, where they are not there yet. */
import { makeImage } from './image.ts'

// PostgreSQL's is made over the packages of our own image.
for (const name of ['postgres:15.0', 'rabbitmq:0']) await (await makeImage(name)).remove()
