import type { Same } from '../schema';
import type en from '../en/monitor';

export default {
  title: '监控',
  host: '本机',
  machines: '虚拟机',
  metric: '指标',
  choose: '显示的虚拟机',
  running: '没有正在运行的虚拟机 | {count} 台正在运行 | {count} 台正在运行',
  chosen: '没有虚拟机 | {count} 台虚拟机 | {count} 台虚拟机',
  find: '查找虚拟机',
  allRunning: '正在运行的',
  allFound: '以下全部',
  none: '全不选',
  noneFound: '没有匹配的虚拟机。',
  noMachine: '还没有虚拟机。',
  noneChosen: '请选择要显示的虚拟机。',
  noneRuns: '当前没有虚拟机在运行。可选择虚拟机查看其历史。',
  full: '最多同时显示 {count} 台虚拟机。',
  legend: '虚拟机及其数值',
  saveHost: '将本机的数值保存为 CSV',
  saveMachines: '将虚拟机的数值保存为 CSV',
} satisfies Same<typeof en>;
