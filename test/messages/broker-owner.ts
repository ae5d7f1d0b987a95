/** A process that starts a private broker and is killed by the test. Argument: the directory. Prints the URL when it is up. */
import { pino } from 'pino'
import { startTestBroker } from '../support/rabbitmq.ts'

const directory = process.argv[2] ?? ''
const broker = await startTestBroker({ directory, logger: pino({ level: 'silent' }) })
console.log(broker.url)
setInterval(() => {}, 60_000)
