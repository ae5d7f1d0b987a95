/** The keys of a schema as a flat list, for `--help`. */
import type { Schema } from 'convict'

export interface ConfigKey {
  /** Path with dots: `broker.url`. */
  readonly key: string
  readonly doc: string
  /** The default, formatted for people. */
  readonly shown: string
  readonly env: string | undefined
  readonly flag: string | undefined
}

export function describeKeys<Config>(schema: Schema<Config>, prefix = ''): ConfigKey[] {
  return Object.entries(schema as Record<string, unknown>).flatMap(([name, value]) => {
    const node = value as Record<string, unknown>
    const key = `${prefix}${name}`
    if (!('default' in node)) return describeKeys(node as Schema<object>, `${key}.`)
    return [
      {
        key,
        doc: String(node.doc),
        shown: node.default === null ? 'none' : JSON.stringify(node.default).replaceAll('","', '", "'),
        env: node.env as string | undefined,
        flag: node.arg as string | undefined,
      },
    ]
  })
}
