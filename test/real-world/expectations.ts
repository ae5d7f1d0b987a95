/** What scenarios expect of sessions, errors and checks. */
import { expect } from 'chai'
import type { CheckReport } from '../../messages/definitions.ts'
import type { ErrorBody, ErrorCode } from '../../messages/errors.ts'
import type { SessionView } from '../../messages/values.ts'

/** Each is said by one of the session's warnings. */
export function expectWarnings(session: SessionView, ...patterns: readonly RegExp[]): void {
  for (const pattern of patterns) {
    expect(
      session.warnings.some((warning) => pattern.test(warning)),
      `a warning ${pattern} among ${JSON.stringify(session.warnings)}`,
    ).to.equal(true)
  }
}

/** The error, or one of its details, has the code and says all of it. */
export function expectError(
  error: ErrorBody | undefined,
  code: ErrorCode,
  ...patterns: readonly RegExp[]
): void {
  const all = error === undefined ? [] : [error, ...(error.details ?? [])]
  const found = all.some((one) => one.code === code && patterns.every((pattern) => pattern.test(one.message)))
  expect(found, `${code} ${patterns.join(' ')} in ${JSON.stringify(error)}`).to.equal(true)
}

/** A check found it before the publish does. */
export function expectFinding(report: CheckReport, level: 'error' | 'warning', pattern: RegExp): void {
  expect(
    report.findings.some((finding) => finding.level === level && pattern.test(finding.message)),
    `a finding ${pattern} among ${JSON.stringify(report.findings)}`,
  ).to.equal(true)
}

/** A check found nothing that keeps it from being published. */
export function expectPublishable({ findings }: CheckReport): void {
  expect(findings.filter(({ level }) => level === 'error')).to.deep.equal([])
}

/** The latest export of the session took everything along that it was asked for. */
export function expectExported({ exports = [], error }: SessionView): void {
  const { status, databases, error: why } = exports.at(-1) ?? {}
  expect(status, JSON.stringify(why ?? error ?? databases)).to.equal('done')
}
