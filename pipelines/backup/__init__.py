"""Backups: what PostgreSQL cannot lose, streamed into an object store, encrypted, and restored to prove it.

Concept: a *repository* (folder `backups/<system identifier>/` of a store) holds base backups (full and incremental),
the WAL between them, and a catalogue record per backup, written last: without it the backup does not exist. A backup
of any kind is restorable to its own end by itself (it carries its WAL); to any later moment together with `wal/`.
https://www.postgresql.org/docs/18/continuous-archiving.html

Files (who imports what runs downwards):

    resident   the process of `longbox wal receive`: threads for receiving, shipping, heartbeats, bridging
    bridge     a gap in WAL asks for a backup, until one is made
    watch      how far the WAL is: live RPO, lag, gaps, slot, spool
    routine    what runs by the clock: backup between witnesses, copies, expiry, reading back, drill; all ledgered
    protection versioning and Object Lock of the stores
    heartbeats a chained row each minute, its hashes in the store, and the judge that compares them
    readiness  what can be restored, to when, how fast, proved when; what is overdue
    drill      restore a random moment, compare with the truth, measure, clean up; `amcheck` looks at pages and indexes
    failover   whether a restored server takes the platform's writes: a judge of the fail-over drill
    truth      witnesses: digests of tables and the ledger's head at a moment, kept in the store
    receiver   keeps pg_receivewal running into the spool; bounds of spool and slot
    shipper    from the spool into the store; deletes what is proved there; finds gaps
    mirror     WAL from the store to one copy store as it comes, by the receiver; base backups are `copies`'
    outbox     sealed WAL in the spool for the copies, while the first store is away
    slot_guard the bound of the slot while no receiver runs: the next backup gives it up
    reach      how far each copy store leads by itself
    slot       the server's side: replication slot, position, lock of the one receiver
    spool      WAL on the receiver's disk
    ledger     entries of `longbox.ledger` and whether its chain is whole
    beats      heartbeats as the store has them
    coverage   covers(): is the content of this partition in a verified backup? Without evidence: no
    copies     bring every object to each copy store and compare there
    expiry     which backups and WAL may go, dependents first; `plan_expiry` is pure, `expire` deletes
    verify     read everything back: hashes, decryption, chains; nothing that must be there is missing
    continuity whether the WAL that is there is all that must be there
    restore    carry a plan out: lay the files out, check them, recover, look, say "restored"
    planning   which backups and WAL lead to a target; refuses what cannot be, before anything is written
    recovery   start the restored cluster, feed it WAL, wait for the target, check, promote
    setup      repository, keys and engine as the settings name them
    pgbackrest the engine over pgBackRest (`pgbackrest_said` reads its words, `pgbackrest_restore` restores by it)
    external   the engine over a provider's snapshots: evidence, no proof
    postgres   the default engine: pg_basebackup; `stored` is its side that needs no server
    engine     `BackupSource` and `BackupEngine`: what each engine is asked
    files      the files of a backup out of the repository, checked and combined
    incremental changed blocks written into the files that they change
    stream     tar stream -> zstd -> encrypt -> parts in the store, and back; bounded memory
    wal        segments, partial segments, history files and the covered moment in the repository
    repository one repository over a store and its copies: records, leases, sealed objects, sweeping
    sealed     the format of a sealed object (below)
    layout     the names below; no other module builds or parses them
    model      records as values; JSON with a checksum of its own
    errors     what may go wrong

Layout, relative to the store's URL (the same in every copy store, byte for byte):

    backups/<system identifier>/
      catalogue/<backup id>.json             BackupRecord; backup id = 20261121T054200Z-full-1a2b, -incr-
      data/<backup id>/part-000001.sealed    tar of the cluster, in order; each part stands by itself
      data/<backup id>/manifest.sealed       backup_manifest, under the state key: for the next incremental
      leases/<backup id>.json                a backup in progress (renewed every 30 s), or one being copied or expired:
                                             parts that have neither record nor lease have lost their record
      verifications/<backup id>.json         Verification: the last reading back of that backup
      wal/<TLI, 8 hex>/<segment, 24 hex>.sealed                   a whole segment
      wal/<TLI>/<segment>.<valid bytes, 8 hex>.partial.sealed     the open segment so far; a new object each time
      wal/<TLI>/history.sealed               the timeline's history file
      wal/covered.json                       Covered: every commit up to this moment is in the store
      wal/kept.json                          where WAL begins: from that LSN on none may be missing
      truth/<moment>.json                    Truth: a witness; the ledger names each with its digest
      drills/<moment>.json                   DrillResult
      heartbeats/<TLI>/<hour>.json           heartbeats of an hour: hashes, moments; only grows
      evidence/<backup id>.json              external engine: what the provider said of a snapshot, and when
      pgbackrest/archived.json               pgbackrest engine: every commit before this moment is in its archive

A sealed object: magic, header (JSON: its own name, wrapped key, meta), ciphertext of a zstd frame (Tink streaming
AES-256-GCM, the header as associated data), BLAKE2b-256 of everything before. So damage is found without any key, and
an object cannot stand in for another one. The wrapped key opens with the recovery keys only; the server holds none.

The WAL receiver uses `wal.WalArchive.put_segment / put_partial / put_history / put_covered` (all idempotent), and
`WalArchive.inventory()` -> what is there, gaps named; locks come from `sealed.recovery_lock(ServerKeys)`. For
drills: `restore.restore(repository, RestoreRequest(...), opener, check=f)`, where `f(url)` runs against the recovered
server before it counts as restored; `planning.window(repository, opener)` gives first and newest restorable moment.
For assets: `routine`, each call returning frozen dataclasses. A further witness is a `drill.Judge` passed to
`routine.run_drill(judges=...)`: it gets a way to connect to the restored server and the moment, and names faults.
"""
