#!/bin/sh
# Backups of the PostgreSQL of docker-compose.yml: `once`, `forever`, or `restore FILE`.
set -eu
url=$(cat "${QUICKSTUDY_SECRETS:-/run/secrets}/quickstudy_database_url")
folder=${QUICKSTUDY_BACKUPS:-/backups}
days=${QUICKSTUDY_BACKUP_DAYS:-14}
hours=${QUICKSTUDY_BACKUP_HOURS:-24}
name=${url##*/}

once() {
    file=$name-$(date -u +%Y%m%dT%H%M%SZ).dump
    # `set -e` counts for nothing in what `forever` tries.
    if ! pg_dump --format=custom --file="$folder/$file.unfinished" "$url"; then
        # A full disk would stay full.
        rm -f -- "$folder/$file.unfinished"
        return 1
    fi
    # It gets its name when it is whole, and only then old ones go: of what this made, for the folder
    # may hold more.
    mv "$folder/$file.unfinished" "$folder/$file" \
        && find "$folder" -maxdepth 1 -type f -name "$name-????????T??????Z.dump*" \
            -mtime "+$days" -exec rm -- {} + \
        && echo "$file"
}

restore() {
    test -f "$folder/$1" || { echo "there is no backup $folder/$1" >&2; exit 2; }
    server=${url%/*}
    psql --quiet "$server/postgres" --command="DROP DATABASE IF EXISTS ${name}_restored" \
        --command="CREATE DATABASE ${name}_restored"
    pg_restore --exit-on-error --no-owner --dbname="$server/${name}_restored" "$folder/$1"
    psql --quiet "$server/${name}_restored" --command=ANALYZE
    # Fails while anybody is connected, and then nothing has changed.
    psql --quiet --single-transaction --set=ON_ERROR_STOP=1 "$server/postgres" \
        --command="ALTER DATABASE $name RENAME TO ${name}_before_$(date -u +%Y%m%d%H%M%S)" \
        --command="ALTER DATABASE ${name}_restored RENAME TO $name" \
        || { echo "stop the service first: docker compose stop service" >&2; exit 2; }
}

case "${1:-}" in
once) once ;;
forever)
    while :; do
        once || echo "the backup failed; the next one is in $hours h" >&2
        sleep "$((hours * 3600))"
    done
    ;;
restore) restore "${2:?restore which file?}" ;;
*)
    echo "usage: backup.sh once | forever | restore FILE" >&2
    exit 2
    ;;
esac
