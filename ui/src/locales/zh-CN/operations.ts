import type { Same } from '../schema';
import type en from '../en/operations';

export default {
  title: '活动',
  filter: '仅显示',
  all: '全部',
  empty: '还没有任何操作',
  emptyText: '对虚拟机、映像和磁盘所做的操作及其结果都会记录在这里。',
  emptyFilter: '没有此类操作',
  older: '显示更早的操作',
  id: '操作编号',
  gone: '这台虚拟机已不存在。',
  qemuWords: 'QEMU 的输出',
} satisfies Same<typeof en>;
