/** Reads the TLS files that the configuration names. */
import { readFileSync } from 'node:fs'
import { ConfigurationError } from './configuration-error.ts'
import type { CommonConfig, TlsConfig } from './schema.ts'

/** Contents of PEM files, with the option names of Node's TLS. */
export interface TlsMaterial {
  ca?: Buffer
  cert?: Buffer
  key?: Buffer
}

/** @throws ConfigurationError that names the key whose file cannot be read */
export function readTls<T extends { [K in keyof TlsConfig]: string | null }>(
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

/** URL and TLS files for the connection to RabbitMQ. @throws ConfigurationError, also for TLS files that would not be used */
export function brokerAccess(broker: CommonConfig['broker']): { url: string; tls?: TlsMaterial } {
  const given = (['ca', 'certificate', 'key'] as const).find((key) => broker[key] !== null)
  if (given !== undefined && !broker.url.startsWith('amqps:')) {
    throw new ConfigurationError(
      `configuration: broker.${given} is for TLS, and the broker URL begins with amqp://, which is plaintext: use amqps://`,
    )
  }
  const tls = readTls(broker, 'broker')
  return { url: broker.url, ...(Object.keys(tls).length > 0 && { tls }) }
}

function read(file: string, key: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    throw new ConfigurationError(`configuration: ${key}: ${(error as Error).message}`, { cause: error })
  }
}
