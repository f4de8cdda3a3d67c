#!/bin/sh
# Writes crates/store/.sqlx: what SQLite says of each query, so that a build checks them without a database.
# To be run after a query or a migration has changed. With --check nothing is written; it fails where they are stale.
# Needs the sqlite3 command, and no sqlx-cli: the query macros write the files themselves when told where.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/queries"
cat migrations/*.sql | sqlite3 "$work/schema.db"
touch crates/store/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$work/queries DATABASE_URL=sqlite:$work/schema.db cargo check -q -p voidvm-store
touch crates/store/src/lib.rs
if [ "${1:-}" = --check ]; then
  diff -r "$work/queries" crates/store/.sqlx || { echo "crates/store/.sqlx is stale: run crates/store/refresh-queries.sh"; exit 1; }
else
  rm -rf crates/store/.sqlx
  cp -r "$work/queries" crates/store/.sqlx
fi
