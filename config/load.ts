/** Loads one role's configuration: file, then environment, then flags; validated, with errors that name the key. */
import { readFileSync } from 'node:fs'
import convict, { type Schema } from 'convict'
import { ConfigurationError } from './configuration-error.ts'
import { environmentProblem } from './environment.ts'
import { combinationProblem } from './schema.ts'

export interface ConfigSources {
  /** Configuration file (JSON); undefined: none. */
  readonly file?: string | undefined
  readonly env: NodeJS.ProcessEnv
  /** Flags as given after the verb: `['--broker', 'amqp://…']`. */
  readonly args: readonly string[]
}

/** @throws ConfigurationError that names the file, and every wrong key with its valid values */
export function loadConfig<T>(schema: Schema<T>, sources: ConfigSources): T {
  const origin = sources.file ?? 'environment and flags'
  const unknown = environmentProblem(sources.env)
  if (unknown !== undefined) throw new ConfigurationError(`configuration (environment): ${unknown}`)
  try {
    const config = convict(schema, { env: sources.env, args: [...sources.args] })
    if (sources.file !== undefined) config.load(withUrls(parseFile(sources.file)) as never)
    config.validate({ allowed: 'strict' })
    const values = config.getProperties()
    const problem = combinationProblem(values as object)
    if (problem !== undefined) throw new Error(problem)
    return values
  } catch (error) {
    if (error instanceof ConfigurationError) throw error
    throw new ConfigurationError(`configuration (${origin}): ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** `broker.url` of a file is `broker.urls`, for a broker with one node. */
function withUrls(file: unknown): unknown {
  const { broker } = (file ?? {}) as { broker?: { url?: unknown; urls?: unknown } }
  if (broker?.url === undefined) return file
  if (broker.urls !== undefined) throw new Error('broker.url and broker.urls are the same: give one of them')
  const { url, ...rest } = broker
  return { ...(file as object), broker: { ...rest, urls: url } }
}

function parseFile(file: string): unknown {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw new ConfigurationError(`configuration file ${file}: ${(error as Error).message}`, {
      cause: error,
    })
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ConfigurationError(`configuration file ${file} is not JSON: ${(error as Error).message}`, {
      cause: error,
    })
  }
}
