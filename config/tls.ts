/**
 * TLS as the configuration names its files. A renewed certificate counts from the next connection on: a context looks at
 * its files each time that it is used.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import { ConfigurationError } from './configuration-error.ts'
import type { CommonConfig, TlsConfig } from './schema.ts'

/** Contents of PEM files, with the option names of Node's TLS. */
export interface TlsMaterial {
  ca?: Buffer
  cert?: Buffer
  key?: Buffer
}

type TlsFiles = { readonly [K in keyof TlsConfig]: string | null }

/** @throws ConfigurationError that names the key whose file cannot be read */
export function readTls<T extends TlsFiles>(
  files: T,
  prefix: string,
): T extends TlsConfig ? Required<TlsMaterial> : TlsMaterial {
  const { ca, certificate, key } = files
  const material: TlsMaterial = {
    ...(ca !== null && { ca: read(ca, `${prefix}.ca`) }),
    ...(certificate !== null && { cert: read(certificate, `${prefix}.certificate`) }),
    ...(key !== null && { key: read(key, `${prefix}.key`) }),
  }
  return material as ReturnType<typeof readTls<T>>
}

/**
 * A context for clients that follows its files. While they do not fit together, because somebody exchanges them just now,
 * it stays as it was.
 * @throws ConfigurationError when they cannot be read now, or do not fit together
 */
export function followTls(
  files: TlsFiles,
  prefix: string,
  options: SecureContextOptions = {},
): SecureContext {
  let seen = stamp(files)
  let current = makeContext(files, prefix, options)
  return {
    /** What Node reads of a context whenever a connection begins. */
    get context() {
      const found = stamp(files)
      if (found === seen) return current.context
      try {
        current = makeContext(files, prefix, options)
        seen = found
      } catch {
        // Looked at again with the next connection.
      }
      return current.context
    },
  }
}

/**
 * URLs and TLS for the connection to RabbitMQ. `user`: whom the certificate names, where that is how to log in.
 * @throws ConfigurationError, also for TLS files that would not be used
 */
export function brokerAccess(broker: CommonConfig['broker']): {
  url: string[]
  tls?: { secureContext: SecureContext; user?: string }
} {
  const { urls: url, ca, certificate, key } = broker
  const files: TlsFiles = { ca, certificate, key }
  const given = (['ca', 'certificate', 'key'] as const).find((name) => files[name] !== null)
  if (given === undefined) return { url }
  if (!url.every((one) => one.startsWith('amqps:'))) {
    throw new ConfigurationError(
      `configuration: broker.${given} is for TLS, and a broker URL begins with amqp://, which is plaintext: use amqps://`,
    )
  }
  const secureContext = followTls(files, 'broker')
  const user = certificate === null ? undefined : commonName(certificate)
  return { url, tls: { secureContext, ...(user !== undefined && { user }) } }
}

/** Whom a certificate names. @throws ConfigurationError when it is none */
function commonName(file: string): string | undefined {
  const { subject } = new X509Certificate(read(file, 'broker.certificate'))
  return /^CN=(.+)$/m.exec(subject)?.[1]
}

function makeContext(files: TlsFiles, prefix: string, options: SecureContextOptions): SecureContext {
  const material = readTls(files, prefix)
  try {
    return createSecureContext({ ...options, ...material })
  } catch (error) {
    const names = Object.values(files).filter((file) => file !== null)
    throw new ConfigurationError(
      `configuration: ${prefix}: ${names.join(', ')} do not fit together, or are no PEM files: ${(error as Error).message}`,
      { cause: error },
    )
  }
}

/** Changes whenever one of the files is replaced or written. */
function stamp(files: TlsFiles): string {
  return Object.values(files)
    .map((file) => {
      const stats = file === null ? undefined : statSync(file, { throwIfNoEntry: false })
      return stats && `${stats.ino} ${stats.mtimeMs} ${stats.size}`
    })
    .join()
}

function read(file: string, key: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new ConfigurationError(`configuration: ${key}: ${(error as Error).message}`, { cause: error })
  }
}
