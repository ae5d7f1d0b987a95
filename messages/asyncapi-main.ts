/** Writes docs/asyncapi.json: `npm run asyncapi`. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { asyncApiDocument } from './asyncapi.ts'

const file = fileURLToPath(new URL('../docs/asyncapi.json', import.meta.url))
mkdirSync(fileURLToPath(new URL('../docs', import.meta.url)), { recursive: true })
writeFileSync(file, `${JSON.stringify(asyncApiDocument(), undefined, 2)}\n`)
