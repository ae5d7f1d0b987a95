/** Events and sessions as `howdah watch` shows them: as a line of text, or as a JSON document. */
import type { EventDelivery } from '../../messages/bus.ts'
import type { SessionView } from '../../messages/values.ts'
import type { Context } from './context.ts'
import { databaseText } from './export-lines.ts'
import { formatClock, formatShare } from './format.ts'
import { changedDatabases, changesText } from './session-lines.ts'
import { printable } from './terminal.ts'

/** What stands for an event that is not one of the contract: what was asked, or that events may have been missed. */
export type DocumentType = EventDelivery['type'] | 'session.show' | 'watch.missed'

export function eventDocument({ now }: Pick<Context, 'now'>, type: DocumentType, body: object): object {
  return { time: now().toISOString(), type, body }
}

/** One event as a line: time, session, what happened. */
export function eventLine({ stdout, now }: Pick<Context, 'stdout' | 'now'>, delivery: EventDelivery): string {
  return watchLine({ stdout, now }, delivery.body.session, eventText(delivery))
}

/** The state of a session that the coordinator was asked for, in the form of an event. */
export function viewLine(
  context: Pick<Context, 'stdout' | 'now'>,
  view: Pick<SessionView, 'id' | 'state' | 'error'>,
): string {
  return watchLine(context, view.id, stateText(view))
}

function watchLine({ stdout, now }: Pick<Context, 'stdout' | 'now'>, session: string, text: string): string {
  return `${stdout.style('dim', formatClock(now()))}  ${session.padEnd(16)}  ${text}`
}

function stateText({
  state,
  error,
  reason,
}: {
  state: string
  error?: { message: string } | undefined
  reason?: string | undefined
}): string {
  return [state, error?.message ?? reason]
    .filter((part) => part !== undefined)
    .map(printable)
    .join(': ')
}

function eventText(delivery: EventDelivery): string {
  const stepOf = (body: { direction: string; step: string }) =>
    body.direction === 'undo' ? `undo ${body.step}` : body.step
  switch (delivery.type) {
    case 'session.state':
      return stateText(delivery.body)
    case 'session.step-started':
      return `${stepOf(delivery.body)} started`
    case 'session.step-progress': {
      const { bytesDone, bytesTotal, detail, databases = [] } = delivery.body
      const share = bytesDone === undefined ? '' : formatShare(bytesDone, bytesTotal ?? bytesDone)
      const running = databases
        .filter(({ status }) => status === 'running')
        .map((one) => `${printable(one.database)}: ${databaseText(one)}`)
      return [stepOf(delivery.body), share, printable(detail ?? ''), ...running]
        .filter((part) => part !== '')
        .join('  ')
    }
    case 'session.step-done':
      return `${stepOf(delivery.body)} done`
    case 'session.step-failed':
      return `${stepOf(delivery.body)} failed: ${printable(delivery.body.error.message)}`
    case 'session.usage': {
      const { fetchedBytes, totalBytes } = delivery.body.usage
      const changes = changesText(delivery.body)
      return `fetched ${formatShare(fetchedBytes, totalBytes)}${changes === undefined ? '' : `, changes ${changes}`}`
    }
    case 'session.changes': {
      const { changed } = delivery.body.changes
      if (!changed) return 'nothing changed'
      const names = changedDatabases(delivery.body.changes)
      return `changed${names === '' ? '' : ` in ${names}`}`
    }
    case 'session.findings':
      return delivery.body.warnings.map((warning) => `warning: ${printable(warning)}`).join('; ')
    case 'session.reachability': {
      const { reachable, failedReads, reason } = delivery.body
      if (reachable) return 'the mount server can be reached again'
      const failed = failedReads > 0 ? `, ${failedReads} reads failed` : ''
      return `the mount server cannot be reached${failed}${reason === undefined ? '' : `: ${printable(reason)}`}`
    }
    case 'session.warning':
      return `${delivery.body.level === 'cleared' ? '' : 'warning: '}${printable(delivery.body.message)}`
    case 'session.lost':
      return `lost its ${delivery.body.what}: ${printable(delivery.body.reason)}`
    case 'session.damage': {
      const { instance, backup, file, block, what } = delivery.body
      return `block ${block} of ${printable(file)} of ${printable(`${instance}/${backup}`)} is damaged: ${printable(what)}`
    }
    default:
      return delivery satisfies never
  }
}
