/** Makes messages from schemas: with every field, with only the fields that must be there, or as a newer release may send. */
import { z } from 'zod'

/** `newer`: every field, keys that nobody knows, and values that nobody knows wherever a schema is open to them. */
export type SampleKind = 'full' | 'minimal' | 'newer'

/** One of them matches each pattern of the contract. */
const TEXTS = [
  'shop',
  'shop-1',
  '2026-11-30T10:00:00Z',
  '/srv/rescue',
  '000000010000000000000001',
  'db.example:5432',
  'latest',
  '0123456789abcdef',
]

export function sampleOf(schema: z.core.$ZodType, kind: SampleKind): unknown {
  const { def } = (schema as z.core.$ZodTypes)._zod
  switch (def.type) {
    case 'object': {
      const entries = Object.entries(def.shape).map(([key, one]) => [key, sampleOf(one, kind)] as const)
      const object = Object.fromEntries(entries.filter(([, value]) => value !== undefined))
      return kind === 'newer' ? { ...object, ofANewerRelease: { added: [1] } } : object
    }
    case 'array':
      return kind === 'minimal' ? [] : [sampleOf(def.element, kind)]
    case 'optional':
      return kind === 'minimal' ? undefined : sampleOf(def.innerType, kind)
    case 'nullable':
      return kind === 'minimal' ? null : sampleOf(def.innerType, kind)
    case 'record':
      return kind === 'minimal' ? {} : { shop: sampleOf(def.valueType, kind) }
    case 'pipe':
      return sampleOf(def.out, kind)
    case 'enum':
      return Object.values(def.entries)[0]
    case 'union': {
      const options = kind === 'newer' ? [...def.options].reverse() : def.options
      return firstMatch(schema, [...options.map((option) => sampleOf(option, kind)), 'of_a_newer_release'])
    }
    case 'literal':
      return def.values[0]
    case 'string':
      return firstMatch(schema, kind === 'newer' && isPlain(schema) ? ['of_a_newer_release'] : TEXTS)
    case 'number':
      return firstMatch(schema, [7, 1, 900])
    case 'boolean':
      return true
    case 'unknown':
      return {}
    default:
      throw new Error(`samples.ts makes no ${def.type}`)
  }
}

function isPlain(schema: z.core.$ZodType): boolean {
  return z.safeParse(schema, 'of_a_newer_release').success
}

function firstMatch(schema: z.core.$ZodType, candidates: readonly unknown[]): unknown {
  const match = candidates.find((candidate) => z.safeParse(schema, candidate).success)
  if (match === undefined) throw new Error('samples.ts has nothing that matches a schema of the contract')
  return match
}
