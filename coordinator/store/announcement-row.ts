/** An announcement as a row of either store. */
import { type Announcement, announcementId } from '../announcements.ts'
import { storedJson } from './stored-json.ts'

export interface AnnouncementRow {
  readonly id: string
  readonly session: string
  readonly version: number
  readonly number: number
  /** JSON. */
  readonly document: string
}

export function announcementRow(announcement: Announcement): AnnouncementRow {
  const { number, body } = announcement
  const { session, version } = body
  return { id: announcementId(announcement), session, version, number, document: storedJson(announcement) }
}
