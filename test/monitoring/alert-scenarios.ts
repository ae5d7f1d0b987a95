/** For each alert series that raise it, as `promtool test rules` takes them, and series of a fleet that is well. */

export interface Scenario {
  /** By series; one value a minute. */
  readonly series: Readonly<Record<string, string>>
  /** When the alert is active. */
  readonly at: string
}

const AGENT = 'job="howdah-target-agent", instance="db-7:7423"'
const BACKUP = 'job="howdah-mount-agent", instance="backup-1:7422"'
const EVENTS = 'queue="howdah.coordinator.events"'

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  HowdahRoleDown: { series: { [`up{${AGENT}}`]: '0x10' }, at: '5m' },
  HowdahNoActiveCoordinator: {
    series: {
      'howdah_coordinator_active{instance="a"}': '0x10',
      'howdah_coordinator_active{instance="b"}': '0x10',
    },
    at: '5m',
  },
  HowdahBrokerUnreachable: {
    series: {
      [`howdah_broker_connected{${AGENT}, connection="publish"}`]: '1x10',
      [`howdah_broker_connected{${AGENT}, connection="consume"}`]: '0x10',
    },
    at: '5m',
  },
  HowdahBrokerUnstable: {
    series: { [`howdah_broker_connection_losses_total{${AGENT}, connection="consume"}`]: '0+1x60' },
    at: '60m',
  },
  HowdahAgentOffline: { series: { 'howdah_agents{kind="target", condition="offline"}': '1x20' }, at: '10m' },
  HowdahAgentIncompatible: {
    series: { 'howdah_agents{kind="mount", condition="incompatible"}': '2x30' },
    at: '20m',
  },
  HowdahSessionsDisrupted: { series: { 'howdah_sessions{state="disrupted"}': '1x30' }, at: '15m' },
  HowdahSessionLost: {
    series: { [`howdah_target_sessions{${AGENT}, condition="lost"}`]: '1x20' },
    at: '10m',
  },
  HowdahMountServerUnreachable: {
    series: { [`howdah_target_sessions{${AGENT}, condition="cut_off"}`]: '1x10' },
    at: '5m',
  },
  HowdahReadsFail: { series: { [`howdah_fetch_failures_total{${AGENT}}`]: '0 0 0 1 1 1 1' }, at: '5m' },
  HowdahPublishesFail: { series: { 'howdah_session_states_total{state="failed"}': '0 0 1 1 1 1' }, at: '5m' },
  HowdahPublishSlow: {
    series: {
      'howdah_publish_seconds_bucket{le="60"}': '0x90',
      'howdah_publish_seconds_bucket{le="120"}': '0+1x90',
      'howdah_publish_seconds_bucket{le="+Inf"}': '0+1x90',
    },
    at: '80m',
  },
  HowdahEventsLate: {
    series: {
      [`howdah_message_age_seconds_bucket{${EVENTS}, le="30"}`]: '0x20',
      [`howdah_message_age_seconds_bucket{${EVENTS}, le="60"}`]: '0+5x20',
      [`howdah_message_age_seconds_bucket{${EVENTS}, le="+Inf"}`]: '0+5x20',
    },
    at: '15m',
  },
  HowdahDeliveryStuck: { series: { [`howdah_oldest_delivery_seconds{${EVENTS}}`]: '0+60x20' }, at: '12m' },
  HowdahCommandsWait: {
    series: { 'howdah_queue_messages{queue="howdah.coordinator"}': '200x20' },
    at: '10m',
  },
  HowdahDeadLetters: { series: { 'howdah_queue_messages{queue="howdah.dead-letters"}': '1x10' }, at: '5m' },
  HowdahAnnouncementsLate: { series: { howdah_outbox_oldest_seconds: '0+60x10' }, at: '5m' },
  HowdahOutcomesUnreported: { series: { [`howdah_agent_unreported_outcomes{${AGENT}}`]: '1x20' }, at: '10m' },
  HowdahOrphanedSessions: { series: { howdah_orphaned_sessions: '3x60' }, at: '40m' },
  HowdahWriteCacheNearlyFull: {
    series: { [`howdah_write_cache_fullest_ratio{${AGENT}}`]: '0.95x10' },
    at: '5m',
  },
  HowdahTargetNearlyFull: {
    series: {
      [`howdah_write_cache_bytes{${AGENT}, content="changes"}`]: '900x10',
      [`howdah_write_cache_bytes{${AGENT}, content="wal"}`]: '60x10',
      [`howdah_target_limit{${AGENT}, limit="write_cache_bytes"}`]: '1000x10',
    },
    at: '5m',
  },
  HowdahDiskNearlyFull: {
    series: {
      [`howdah_disk_available_bytes{${AGENT}, directory="cache"}`]: '5x20',
      [`howdah_disk_size_bytes{${AGENT}, directory="cache"}`]: '100x20',
    },
    at: '10m',
  },
  HowdahCertificateExpires: {
    series: { [`howdah_certificate_expiry_timestamp_seconds{${BACKUP}, certificate="agent"}`]: '864000x120' },
    at: '90m',
  },
  HowdahAgentCertificateExpires: {
    series: { 'howdah_agent_certificate_expiry_timestamp_seconds{kind="target"}': '864000x120' },
    at: '90m',
  },
  HowdahDataPlaneRefusals: {
    series: { [`howdah_data_plane_refusals_total{${BACKUP}}`]: '0+2x20' },
    at: '15m',
  },
}

/** Raises nothing, however long it lasts. */
export const WELL: Scenario = {
  series: {
    [`up{${AGENT}}`]: '1x120',
    'howdah_coordinator_active{instance="a"}': '1x120',
    'howdah_coordinator_active{instance="b"}': '0x120',
    [`howdah_broker_connected{${AGENT}, connection="publish"}`]: '1x120',
    [`howdah_broker_connection_losses_total{${AGENT}, connection="consume"}`]: '2x120',
    'howdah_agents{kind="target", condition="online"}': '200x120',
    'howdah_agents{kind="target", condition="offline"}': '0x120',
    'howdah_agents{kind="target", condition="revoked"}': '1x120',
    'howdah_sessions{state="published"}': '1000x120',
    'howdah_sessions{state="disrupted"}': '0x120',
    'howdah_session_states_total{state="failed"}': '7x120',
    [`howdah_target_sessions{${AGENT}, condition="whole"}`]: '50x120',
    [`howdah_target_sessions{${AGENT}, condition="lost"}`]: '0x120',
    [`howdah_fetch_failures_total{${AGENT}}`]: '3x120',
    'howdah_publish_seconds_bucket{le="2"}': '0+1x120',
    'howdah_publish_seconds_bucket{le="+Inf"}': '0+1x120',
    [`howdah_message_age_seconds_bucket{${EVENTS}, le="1"}`]: '0+50x120',
    [`howdah_message_age_seconds_bucket{${EVENTS}, le="+Inf"}`]: '0+50x120',
    [`howdah_oldest_delivery_seconds{${EVENTS}}`]: '0.1x120',
    'howdah_queue_messages{queue="howdah.coordinator"}': '2x120',
    'howdah_queue_messages{queue="howdah.dead-letters"}': '0x120',
    howdah_outbox_oldest_seconds: '0x120',
    [`howdah_write_cache_fullest_ratio{${AGENT}}`]: '0.5x120',
    [`howdah_write_cache_bytes{${AGENT}, content="changes"}`]: '900x120',
    [`howdah_target_limit{${AGENT}, limit="write_cache_bytes"}`]: 'Inf '.repeat(121).trim(),
    [`howdah_disk_available_bytes{${AGENT}, directory="cache"}`]: '50x120',
    [`howdah_disk_size_bytes{${AGENT}, directory="cache"}`]: '100x120',
    [`howdah_certificate_expiry_timestamp_seconds{${BACKUP}, certificate="agent"}`]: '5184000x120',
    [`howdah_data_plane_refusals_total{${BACKUP}}`]: '4x120',
  },
  at: '110m',
}
