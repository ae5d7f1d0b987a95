/** A mount process whose backup is a plain directory, which the ticket names. */
import { mountProgram } from '../../../agents/target/mount-process/program/mount-program.ts'
import { directorySource } from './directory-source.ts'

await mountProgram(({ dataPlane }) => directorySource(dataPlane.ticket))
