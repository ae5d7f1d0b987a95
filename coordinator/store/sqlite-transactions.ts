/** Transactions of a SQLite connection, which may be within each other. */
import type { DatabaseSync } from 'node:sqlite'

/** Commits what `work` did if `commits` says so of its outcome, else undoes it. Within another transaction it is a part of that. */
export type Transaction = <T>(work: () => T, commits: (outcome: T) => boolean) => T

export function createTransactions(db: DatabaseSync): Transaction {
  function undo(inner: boolean): void {
    db.exec(inner ? 'ROLLBACK TO part; RELEASE part' : 'ROLLBACK')
  }

  return (work, commits) => {
    const inner = db.isTransaction
    db.exec(inner ? 'SAVEPOINT part' : 'BEGIN IMMEDIATE')
    try {
      const outcome = work()
      if (commits(outcome)) db.exec(inner ? 'RELEASE part' : 'COMMIT')
      else undo(inner)
      return outcome
    } catch (error) {
      // After some errors, such as a full disk, SQLite has rolled back everything already.
      if (db.isTransaction) undo(inner)
      throw error
    }
  }
}
