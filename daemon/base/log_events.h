/* What the log says that an operator may want to look up or act on: the catalogued messages. Each has an id of its own,
 * for ever the same, by which the journal finds it and what it has to say about it (contrib/systemd/taskerd.catalog,
 * which a test holds against this table). */
#pragma once

/* X(name, id, level) */
#define LOG_EVENTS(X)                                                    \
	X(STARTED, "f1c46f51d4ab4661a656ea1a464c1b33", INFO)             \
	X(STOPPING, "5418b8a661d540da98470cb3c6bec9f5", INFO)            \
	X(FAILED, "9d638973b707402b9782d558e1fdebed", ERROR)             \
	X(DATABASE_UP, "8788373cefe74fae96cfe79b4e8c06fa", INFO)         \
	X(DATABASE_DOWN, "49ec34774d664caf8cc8cd470b1cbd0d", WARN)       \
	X(DATABASE_STUCK, "3a538f4b1ffa4e3b907320e30fa9d792", ERROR)     \
	X(CALL_HANGS, "177e99fef24742c8b92ff5f533f82b1d", WARN)         \
	X(CALL_ANSWERED, "285c75001e99463792b55dabe21e1cd0", INFO)      \
	X(DATABASE_WRITES, "a65409d8f3fa42fb89046cc2d49cbabe", INFO)     \
	X(SCHEMA_MIGRATED, "48bbbba9f3114e6ba18c6857a102855d", INFO)     \
	X(EMBEDDED_ENDED, "7aaa1085cf534fcbb7727a2aca397c53", ERROR)     \
	X(EMBEDDED_BACK, "0f74ad5629c5433ca2c434e89ad12a4b", INFO)       \
	X(STANDSTILL, "e37f6b1af987474a99a937789537e860", ERROR)         \
	X(RELOADED, "ec07028eb13e48db9ede38ae01783396", INFO)            \
	X(RELOAD_REFUSED, "3b939ba462284172a7b8712f27723dab", ERROR)     \
	X(HANDLER_MISSING, "5b6be80cb08d4b239bb703d66c41cafb", WARN)     \
	X(WORKER_CONNECTED, "2b2242eb20a6430b988e191e01e6df60", INFO)    \
	X(WORKER_LOST, "d8a0c9fb5409460eaf1bfd3cbac54423", WARN)         \
	X(STEP_FAILED, "26ad0d7f1a4d45cc876903007f970b77", WARN)         \
	X(STEP_RETRIED, "00e5210c6f3d43be9a627ae49f620f78", WARN)        \
	X(EVENTS_REFUSED, "fa0a781c4ab5494197440509216a9908", WARN)      \
	X(RESULT_LOST, "2bdcc1771b1a4ef883999ba95695fd05", ERROR)        \
	X(STEPS_HELD, "ddbceed6d3e842e28ccc771b14461f4e", INFO)          \
	X(STEPS_NOT_RESUMED, "ca633cc09cb6444994ea22b3251bfc59", WARN)   \
	X(LEASE_LOST, "0f286e1b76f24359bf749e383078e0cd", WARN)          \
	X(NODE_LOST, "62d35c86b4f14d7dbd6dcffdf2579c2e", WARN)           \
	X(CONNECTION_REFUSED, "17d95277edde44998cfa48eaf27f56f6", WARN)  \
	X(ACCESS_DENIED, "3d6c370cd23f4334bf22e1d0f651a916", WARN)       \
	X(ACCESS_WITHDRAWN, "038fec586a764104a84531964f5b5a2b", WARN)    \
	X(PEER_MISBEHAVES, "959ddb2a0c5042dd910865bfb66c2e7a", WARN)     \
	X(STRANGE_MESSAGES, "fabe224350d2452da09698d3083c1bb2", WARN)    \
	X(OUT_OF_DESCRIPTORS, "f796f5cd48f84b849c607575dd8a5b2f", ERROR) \
	X(SESSIONS_KEPT, "aaa4a675dfe946c9a7d41a5e6b897ea8", INFO)       \
	X(SESSIONS_NOT_KEPT, "ba18988499514198b6b716b0304cc4e0", WARN)   \
	X(COLLECTOR_FAILS, "205f6ebb8a0c4a0d8b0acbd21ba81744", WARN)     \
	X(COLLECTOR_TAKES, "c422e442cd204b589d9f551435ee719a", INFO)

enum log_event {
	LOG_NO_EVENT,
#define X(name, id, level) LOG_##name,
	LOG_EVENTS(X)
#undef X
		LOG_EVENT_COUNT,
};
