/** The clusters of PostgreSQL 13 to 18 that are published in the tests: what each has that others have not. */
import type { MajorKind } from '../support/major-production.ts'
import { PLANTED } from '../support/secrets.ts'

export interface TestedKind extends MajorKind {
  /** Queries in the database `app` of the published instance, with the answers that show what its cluster was. */
  readonly proofs: Readonly<Record<string, string>>
}

/** @param port where another server would be asked, if an instance did what production does */
export function kindsOf(port: number): readonly TestedKind[] {
  const conninfo = `host=127.0.0.1 port=${port} user=replicator password=${PLANTED} dbname=hub`
  const subscription = (more = '') =>
    `CREATE SUBSCRIPTION from_hub CONNECTION '${conninfo}' PUBLICATION hub WITH (connect = false, slot_name = 'from_hub'${more});
     ALTER SUBSCRIPTION from_hub ENABLE`
  const physicalSlot = `SELECT pg_create_physical_replication_slot('standby_1', true)`
  const replica = {
    primary_conninfo: conninfo,
    primary_slot_name: 'standby_1',
    restore_command: 'false',
    recovery_end_command: 'false',
    archive_cleanup_command: 'false',
  }
  return [
    {
      version: '13',
      initdb: ['--locale=C.UTF-8'],
      settings: { ...replica, wal_keep_size: '48MB', promote_trigger_file: '/tmp/howdah-no-such-trigger' },
      contents: [subscription(), physicalSlot],
      tablespace: true,
      pgbackrest: { compress: 'gz', bundle: false },
      proofs: { 'SHOW data_checksums': 'off', 'SHOW wal_keep_size': '0' },
    },
    {
      version: '14',
      initdb: ['--locale=C', '--data-checksums', '--wal-segsize=64'],
      settings: { ...replica, recovery_init_sync_method: 'fsync', min_dynamic_shared_memory: '1MB' },
      contents: [
        subscription(', streaming = on, binary = on'),
        `SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')`,
      ],
      pgbackrest: { compress: 'zst', bundle: true },
      proofs: {
        'SHOW data_checksums': 'on',
        'SHOW wal_segment_size': '64MB',
        'SHOW recovery_init_sync_method': 'syncfs',
      },
    },
    {
      version: '16',
      initdb: ['--locale-provider=icu', '--icu-locale=de-DE', '--locale=C.UTF-8', '--data-checksums'],
      settings: { ...replica, shared_preload_libraries: 'pg_prewarm,pg_stat_statements' },
      contents: [
        subscription(', streaming = parallel, origin = none'),
        physicalSlot,
        'CREATE EXTENSION pg_stat_statements',
      ],
      tablespace: true,
      proofs: {
        'SELECT datlocprovider, daticulocale FROM pg_database WHERE datname = current_database()': 'i|de-DE',
        'SHOW shared_preload_libraries': 'pg_stat_statements',
        'SELECT count(*) >= 0 FROM pg_stat_statements': 't',
      },
    },
    {
      version: '17',
      initdb: ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C'],
      settings: {
        ...replica,
        summarize_wal: 'on',
        sync_replication_slots: 'on',
        synchronized_standby_slots: 'standby_1',
        transaction_timeout: '30s',
        event_triggers: 'on',
      },
      contents: [
        subscription(', failover = true'),
        physicalSlot,
        `SELECT pg_create_logical_replication_slot('cdc', 'pgoutput', failover => true)`,
        `CREATE TABLE logins (at timestamptz);
         CREATE FUNCTION entered() RETURNS event_trigger LANGUAGE plpgsql AS
           $$ BEGIN IF NOT pg_is_in_recovery() THEN INSERT INTO logins VALUES (now()); END IF; END $$;
         CREATE EVENT TRIGGER at_login ON login EXECUTE FUNCTION entered();
         ALTER EVENT TRIGGER at_login ENABLE ALWAYS`,
      ],
      proofs: {
        'SHOW data_checksums': 'off',
        'SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()': 'b|C.UTF-8',
        'SHOW summarize_wal': 'off',
        'SHOW sync_replication_slots': 'off',
        'SHOW synchronized_standby_slots': '',
        'SELECT count(*) > 0 FROM logins': 't',
      },
    },
    {
      version: '18',
      initdb: ['--locale=C.UTF-8'],
      settings: {
        ...replica,
        io_method: 'sync',
        io_workers: '5',
        max_active_replication_origins: '20',
        idle_replication_slot_timeout: '1h',
      },
      contents: [
        subscription(),
        physicalSlot,
        `CREATE TABLE virtual (id uuid DEFAULT uuidv7(), a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL);
         INSERT INTO virtual (a) VALUES (21)`,
      ],
      tablespace: true,
      proofs: {
        'SHOW data_checksums': 'on',
        'SHOW io_method': 'worker',
        'SHOW io_workers': '5',
        'SELECT twice, uuid_extract_version(id) FROM virtual': '42|7',
      },
    },
  ]
}
