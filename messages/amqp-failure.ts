/** Maps errors of RabbitMQ and of the socket to `HowdahError`, with a message that says what to do. */
import { HowdahError } from './errors.ts'

/** Reply codes of AMQP 0-9-1, section 1.2 of the specification's constants. */
const ACCESS_REFUSED = 403
export const NOT_FOUND = 404
/** A queue is exclusive to another connection. */
export const RESOURCE_LOCKED = 405
export const PRECONDITION_FAILED = 406
const NOT_ALLOWED = 530

/** Class identifiers of AMQP 0-9-1: exchange and queue. */
const DECLARING_CLASSES: readonly number[] = [40, 50]

interface AmqpError {
  readonly code?: unknown
  /** Of the method that RabbitMQ refused; 0 where there is none. */
  readonly classId?: number
  readonly message?: string
}

/** Converts an error of amqplib. `doing` completes "RabbitMQ refused to …". */
export function amqpFailure(error: unknown, doing: string): HowdahError {
  if (error instanceof HowdahError) return error
  const { code, classId, message = String(error) } = error as AmqpError
  const text = message.slice(0, 500)
  const refusedLogin = loginFailure(message)
  if (refusedLogin) return new HowdahError('configuration', `${refusedLogin} ${text}`, { cause: error })
  switch (code ?? handshakeCode(message)) {
    case PRECONDITION_FAILED:
      // Of a declaration. Others: a delivery that was held for too long, a message that is too large.
      if (classId !== undefined && !DECLARING_CLASSES.includes(classId)) break
      return new HowdahError(
        'configuration',
        `RabbitMQ refused to ${doing}, because it exists there with other properties: delete it if nothing else uses it, or give Howdah a virtual host of its own. ${text}`,
        { cause: error },
      )
    case ACCESS_REFUSED:
      return new HowdahError(
        'configuration',
        `RabbitMQ does not allow this user to ${doing}: check user, password or certificate, and permissions. ${text}`,
        { cause: error },
      )
    case NOT_ALLOWED:
      return new HowdahError(
        'configuration',
        `RabbitMQ does not let this user into the virtual host: check the path of the broker URL. ${text}`,
        { cause: error },
      )
    case NOT_FOUND:
      return new HowdahError('unroutable', `RabbitMQ could not ${doing}. ${text}`, { cause: error })
  }
  return new HowdahError('broker_unavailable', `RabbitMQ could not ${doing}: ${text || String(code)}`, {
    cause: error,
  })
}

/** amqplib gives no code for a refused handshake: the reply code, or the name of the frame, is only in the message. */
function handshakeCode(message: string): number | undefined {
  if (message.includes('403 (ACCESS-REFUSED)')) return ACCESS_REFUSED
  if (/^Expected ConnectionOpenOk; got <ConnectionClose\b/.test(message)) return NOT_ALLOWED
  return undefined
}

/** TLS alerts by which a broker refuses a certificate, as OpenSSL names them (RFC 8446, 6.2). */
const CERTIFICATE_ALERT = /alert (?:bad certificate|certificate|unknown ca|access denied)/i

/** What is wrong with how we log in, where RabbitMQ or TLS say no more than that. */
function loginFailure(message: string): string | undefined {
  if (message.includes('SASL mechanism EXTERNAL is not provided'))
    return 'RabbitMQ does not let anybody log in by certificate: enable its plugin rabbitmq_auth_mechanism_ssl, and set auth_mechanisms.1 = EXTERNAL and ssl_cert_login_from = common_name in rabbitmq.conf.'
  if (/alert certificate expired/i.test(message))
    return 'RabbitMQ refused our certificate, because it expired: enrol this agent again ("howdah agent install", or "howdah agent request" and "accept").'
  if (CERTIFICATE_ALERT.test(message))
    return 'RabbitMQ refused our certificate: it must be signed by the authority that the broker trusts.'
  return undefined
}
