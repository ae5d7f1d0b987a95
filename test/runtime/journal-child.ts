/** A process that has a journal until it is killed. Argument: the file. Prints `open`. */
import { openJournal } from '../../agents/runtime/journal.ts'

openJournal(process.argv[2] ?? '')
process.stdout.write('open\n')
setInterval(() => undefined, 1000)
