/** What every verb runs with: outputs, environment, clock, interruption, and a connection to the broker. */

import type { CommonConfig } from '../../config/schema.ts'
import type { Bus } from '../../messages/bus.ts'
import { type ErrorBody, failureDocument } from '../../messages/errors.ts'
import type { OperatorConnection } from '../../messages/operator-connection.ts'
import type { BrokerFlags } from './broker-url.ts'
import type { Terminal } from './terminal.ts'
import type { VerbDescription } from './verb-description.ts'

export interface Context {
  readonly stdout: Terminal
  readonly stderr: Terminal
  readonly env: NodeJS.ProcessEnv
  readonly now: () => Date
  /** The manual pages of all verbs and roles. */
  readonly pages: () => Promise<readonly VerbDescription[]>
  /** Aborted by SIGINT, SIGTERM, SIGHUP and a reader that goes away; the reason is an Interruption. */
  readonly interrupted: AbortSignal
  /** Aborted by the second of these signals: waits end at once. */
  readonly forceStop: AbortSignal
  /** Asks on the terminal; undefined: there is none to ask on. @throws Interruption */
  readonly question: ((text: string) => Promise<boolean>) | undefined
  /** Asks on the terminal for a password, without showing it; undefined: there is none to ask on. @throws Interruption */
  readonly secret: ((text: string) => Promise<string>) | undefined
  /**
   * The broker of a configuration file or of a URL, with its TLS files from the file or the environment.
   * @throws UsageError
   */
  loadBroker(file: string | undefined, url: string | undefined): Promise<CommonConfig['broker']>
  /** @throws HowdahError `configuration` (no broker named) | `broker_unavailable` */
  connect(flags: BrokerFlags): Promise<BrokerConnection>
  /** For work on queues themselves, past the coordinator. @throws as `connect` */
  connectOperator(flags: BrokerFlags): Promise<OperatorConnection>
}

/** Closed where `await using` leaves its block. */
export interface BrokerConnection extends AsyncDisposable {
  readonly bus: Bus
  /** Of the nodes of the broker, without user and password. */
  readonly urls: readonly string[]
}

/** Exactly one JSON document on stdout. */
export function printJson(context: Context, document: object): void {
  context.stdout.line(JSON.stringify(document))
}

/** The document of a verb that fails: what there is to say, and the error, which says whether a retry can help. */
export function printJsonFailure(context: Context, error: ErrorBody, document: object = {}): void {
  printJson(context, failureDocument(error, document))
}
