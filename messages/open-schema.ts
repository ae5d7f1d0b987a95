/**
 * Opens schemas to what a newer release adds. Commands of clients are strict; everything between coordinator and agents,
 * and every reply, is validated by an open schema that is derived here from the strict one, so that each is written once.
 *
 * Open means: unknown keys are ignored, an enum takes any short text, and a discriminated union any object with a text as
 * its discriminator. The inferred types stay those of the known values: code that receives an enum needs a default for
 * texts that it does not know.
 */
import { z } from 'zod'

/** Enums and unions that decide what an agent does: in an instruction, an unknown value is refused and not guessed at. */
const decisive = z.registry<{ decisive: true }>()

/** Marks an enum or a discriminated union as one that decides what an agent does. */
export function decides<T extends z.ZodType>(schema: T): T {
  decisive.add(schema as z.ZodType, { decisive: true })
  return schema
}

/** A value of an enum that this release does not know. */
const UnknownValue = z.string().min(1).max(100)

type Mode = 'report' | 'instruction'

const opened: Readonly<Record<Mode, WeakMap<z.core.$ZodType, z.core.$ZodType>>> = {
  report: new WeakMap(),
  instruction: new WeakMap(),
}

/** For what is reported: events, replies and results. The same schema always gives the same result. */
export function openReport<T extends z.ZodType>(schema: T): T {
  return open(schema, 'report') as T
}

/** For what an agent is told to do: as a report, but what `decides` stays closed. */
export function openInstruction<T extends z.ZodType>(schema: T): T {
  return open(schema, 'instruction') as T
}

function open(schema: z.core.$ZodType, mode: Mode): z.core.$ZodType {
  const known = opened[mode].get(schema)
  if (known) return known
  const made = derive(schema as z.core.$ZodTypes, mode)
  opened[mode].set(schema, made)
  // What is open already stays as it is.
  opened[mode].set(made, made)
  return made
}

function derive(schema: z.core.$ZodTypes, mode: Mode): z.core.$ZodType {
  const { def } = schema._zod
  switch (def.type) {
    case 'object': {
      const shape = Object.fromEntries(Object.entries(def.shape).map(([key, one]) => [key, open(one, mode)]))
      const closed = def.catchall?._zod.def.type === 'never'
      const { catchall, ...rest } = def
      return replaced(schema, { ...rest, shape, ...(catchall && !closed && { catchall }) }, closed)
    }
    case 'array':
      return replaced(schema, { ...def, element: open(def.element, mode) })
    case 'optional':
    case 'nullable':
      return replaced(schema, { ...def, innerType: open(def.innerType, mode) })
    case 'pipe':
      return replaced(schema, { ...def, out: open(def.out, mode) })
    case 'record':
      return replaced(schema, { ...def, valueType: open(def.valueType, mode) })
    case 'enum':
      return isClosed(schema, mode) ? schema : described(schema, z.union([schema, UnknownValue]))
    case 'union': {
      const options = def.options.map((option) => open(option, mode))
      const known = replaced(schema, { ...def, options })
      const discriminator = textDiscriminator(def)
      if (discriminator === undefined || isClosed(schema, mode)) return known
      return described(schema, z.union([known, unknownOption(discriminator, def.options)]))
    }
    case 'transform':
    case 'string':
    case 'number':
    case 'boolean':
    case 'literal':
    case 'unknown':
      return schema
    default:
      throw new Error(`messages/open-schema.ts does not know how to open a schema of type ${def.type}`)
  }
}

function isClosed(schema: z.core.$ZodType, mode: Mode): boolean {
  return mode === 'instruction' && decisive.has(schema as z.ZodType)
}

/** The schema with another definition; itself where nothing in it differs. */
function replaced(schema: z.core.$ZodTypes, def: object, changed = false): z.core.$ZodType {
  if (!changed && sameChildren(schema._zod.def, def)) return schema
  return described(schema, z.core.clone(schema, def as typeof schema._zod.def))
}

function sameChildren(before: object, after: object): boolean {
  const children = ({
    shape,
    element,
    innerType,
    valueType,
    out,
    options,
  }: Record<string, unknown>): unknown[] => [
    ...Object.values((shape as object | undefined) ?? {}),
    ...((options as unknown[] | undefined) ?? []),
    ...[element, innerType, valueType, out],
  ]
  const [was, is] = [children(before as Record<string, unknown>), children(after as Record<string, unknown>)]
  return was.every((child, index) => child === is[index])
}

/** `made`, with the description of `schema`. */
function described(schema: z.core.$ZodType, made: z.core.$ZodType): z.core.$ZodType {
  const description = z.globalRegistry.get(schema)?.description
  if (description !== undefined) z.globalRegistry.add(made, { description })
  return made
}

/** The key whose text tells the options of a discriminated union apart; undefined: there is none, or it is no text. */
function textDiscriminator(def: z.core.$ZodUnionDef): string | undefined {
  const { discriminator } = def as Partial<z.core.$ZodDiscriminatedUnionDef>
  if (discriminator === undefined) return undefined
  return valuesOf(def.options, discriminator).every((value) => typeof value === 'string')
    ? discriminator
    : undefined
}

function valuesOf(options: readonly z.core.$ZodType[], key: string): unknown[] {
  return options.flatMap((option) => [...(option._zod.propValues?.[key] ?? [])])
}

function unknownOption(key: string, options: readonly z.core.$ZodType[]): z.ZodType {
  const known = valuesOf(options, key)
  return z.looseObject({ [key]: UnknownValue.refine((value) => !known.includes(value)) })
}
