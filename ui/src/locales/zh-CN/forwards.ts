import type { Same } from '../schema';
import type en from '../en/forwards';

export default {
  title: '端口转发',
  help: '客户机可以直接访问网络。如需从本机访问客户机，请将本机的端口转发到客户机。',
  none: '尚未将任何端口转发到客户机。',
  row: '端口转发 {row}',
  protocol: '协议',
  hostPort: '本机端口',
  guestPort: '客户机端口',
  reach: '允许谁连接',
  thisComputer: '仅本机',
  everywhere: '整个网络',
  add: '添加端口转发',
  remove: '移除端口转发 {row}',
  alsoIn: '{name} 也使用端口 {port}，两者不能同时运行。',
  openToAll: '您所在网络中的任何人都可以连接此端口。',
  problem: {
    host_range: '请选择 1024 到 65535 之间的端口，更小的端口需要 root 权限。',
    guest_range: '请选择 1 到 65535 之间的端口。',
    address: '这不是 IPv4 地址。',
    conflict: '端口转发 {row} 已使用此端口。',
  },
} satisfies Same<typeof en>;
