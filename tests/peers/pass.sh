# pass.sh COUNT FD... COMMAND...: runs COMMAND with these descriptors from 3 on, as systemd passes sockets (sd_listen_fds(3)).
count=$1
shift
# First out of the way, so that none is overwritten before it has moved.
moved=()
for ((at = 0; at < count; at++)); do
  exec {free}<&"$1"
  moved+=("$free")
  shift
done
for ((at = 0; at < count; at++)); do
  eval "exec $((3 + at))<&${moved[at]}"
done
export LISTEN_FDS=$count LISTEN_PID=$$
exec "$@"
