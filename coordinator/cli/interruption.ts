/** Why a verb ends before it is done: a signal that it got, or a reader of its output that went away. */
import { constants } from 'node:os'
import { HowdahError } from '../../messages/errors.ts'

/** The signals that end a verb in order. SIGPIPE stands for a reader of the output that went away. */
export type StopSignal = 'SIGHUP' | 'SIGINT' | 'SIGTERM' | 'SIGPIPE'

export class Interruption extends HowdahError {
  readonly signal: StopSignal

  constructor(
    signal: StopSignal,
    message = signal === 'SIGPIPE' ? 'nobody reads the output' : `stopped by ${signal}`,
  ) {
    super('interrupted', message)
    this.name = 'Interruption'
    this.signal = signal
  }

  /** 128 and the number of the signal, as shells report it: 129 SIGHUP, 130 SIGINT, 141 SIGPIPE, 143 SIGTERM. */
  get exitStatus(): number {
    return exitStatusOf(this.signal)
  }
}

export function exitStatusOf(signal: StopSignal): number {
  return 128 + constants.signals[signal]
}

/** The interruption that aborted a signal; undefined: it is not aborted. */
export function interruptionOf(signal: AbortSignal): Interruption | undefined {
  if (!signal.aborted) return undefined
  return signal.reason instanceof Interruption ? signal.reason : new Interruption('SIGINT')
}
