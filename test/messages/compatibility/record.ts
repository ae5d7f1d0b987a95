/**
 * Records the messages of the contract as it is: `node test/messages/compatibility/record.ts`. What was released is never
 * recorded again: a release whose messages have more records a file of its own, under a version of its own.
 */
import { writeFileSync } from 'node:fs'
import { CONTRACT_VERSION } from '../../../messages/definitions.ts'
import { MESSAGES, type Recording, recordingFile } from './contract.ts'
import { sampleOf } from './samples.ts'

const recording: Recording = Object.fromEntries(
  [...MESSAGES].map(([name, { schema, strict = false }]) => [
    name,
    {
      older: [sampleOf(schema, 'full'), sampleOf(schema, 'minimal')],
      ...(!strict && { newer: sampleOf(schema, 'newer') }),
    },
  ]),
)
writeFileSync(recordingFile(CONTRACT_VERSION), `${JSON.stringify(recording, undefined, 1)}\n`)
