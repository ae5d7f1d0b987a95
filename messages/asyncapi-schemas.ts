/** The schemas of the contract as components of the AsyncAPI document. */
import { z } from 'zod'
import * as definitions from './definitions.ts'
import * as exporting from './exports.ts'
import * as labels from './labels.ts'
import { openInstruction, openReport } from './open-schema.ts'
import * as primitives from './primitives.ts'
import * as sessionList from './session-list.ts'
import * as steps from './steps.ts'
import * as values from './values.ts'

export type Json = Record<string, unknown>

const REPORT = '.report'
const INSTRUCTION = '.instruction'

/** Every schema that the contract exports by name becomes a component, and so do its open forms where they differ. */
const named = z.registry<{ id: string }>()
const contract = Object.entries({
  ...primitives,
  ...values,
  ...exporting,
  ...labels,
  ...sessionList,
  ...steps,
  ...definitions,
})
for (const [id, value] of contract.sort(([one], [other]) => (one < other ? -1 : 1))) {
  if (!(value instanceof z.ZodType)) continue
  named.add(value, { id })
  if (!named.has(openReport(value))) named.add(openReport(value), { id: `${id}${REPORT}` })
  if (!named.has(openInstruction(value))) named.add(openInstruction(value), { id: `${id}${INSTRUCTION}` })
}

/** Without the schemas that nothing refers to; a form that is the only one left has the plain name. */
export function withUsedComponents(document: Json): Json {
  const { schemas, ...components } = document.components as { schemas: Record<string, Json> }
  const used = new Set<string>()
  const look = (part: Json): void => {
    for (const [, id = ''] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
      if (used.has(id)) continue
      used.add(id)
      look(schemas[id] ?? {})
    }
  }
  look({ ...document, components })
  const kept = Object.fromEntries(Object.entries(schemas).filter(([id]) => used.has(id)))
  let text = JSON.stringify({ ...document, components: { ...components, schemas: kept } })
  for (const id of used) {
    const plain = id.replace(/\.(report|instruction)$/, '')
    const forms = [plain, `${plain}${REPORT}`, `${plain}${INSTRUCTION}`].filter((form) => used.has(form))
    if (id === plain || forms.length > 1) continue
    text = text.replaceAll(`/${id}"`, `/${plain}"`).replaceAll(`"${id}":`, `"${plain}":`)
  }
  return JSON.parse(text) as Json
}

/** A reference where the schema is a component. */
export function schemaOf(schema: z.ZodType): Json {
  const id = named.get(schema)?.id
  if (id !== undefined) return { $ref: componentUri(id) }
  const {
    $schema,
    definitions: _,
    ...rest
  } = z.toJSONSchema(schema, {
    target: 'draft-7',
    io: 'input',
    metadata: named,
  }) as Json
  return withComponents(rest)
}

export function componentSchemas(): Json {
  const { schemas } = z.toJSONSchema(named, { target: 'draft-7', io: 'input', uri: componentUri })
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema, $id, id: _, ...schema }]) => [id, schema]),
  )
}

function componentUri(id: string): string {
  return `#/components/schemas/${id}`
}

/** Zod puts shared schemas into the `definitions` of each schema; in this document they are components. */
function withComponents(schema: Json): Json {
  return JSON.parse(
    JSON.stringify(schema).replaceAll(/"#\/(?:\$defs|definitions)\//g, '"#/components/schemas/'),
  ) as Json
}
