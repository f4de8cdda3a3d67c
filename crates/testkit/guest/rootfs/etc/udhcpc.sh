#!/bin/sh
# udhcpc's hook: applies a lease and reports the address on the serial line.
case "$1" in bound | renew) ;; *) exit 0 ;; esac
ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}"
if [ -n "$router" ]; then
  while route del default 2>/dev/null; do :; done
  route add default gw "${router%% *}"
fi
: > /etc/resolv.conf
for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
echo "GUEST-IP $interface $ip" > /dev/console
