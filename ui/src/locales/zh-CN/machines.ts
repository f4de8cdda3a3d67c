import type { Same } from '../schema';
import type en from '../en/machines';

export default {
  title: '虚拟机',
  filters: '按状态筛选',
  filter: { all: '全部', running: '运行中', paused: '已暂停', stopped: '已停止', attention: '需要关注' },
  find: '查找虚拟机',
  sortBy: '排序：{key}',
  sort: { name: '名称', state: '状态', changed: '最近变化', memory: '内存' },
  groupBy: '分组方式：{key}',
  grouping: { none: '不分组', group: '分组', tag: '第一个标签' },
  ungrouped: '其他',
  layout: '布局',
  cards: '卡片',
  table: '表格',
  showCards: '以卡片显示虚拟机',
  showTable: '以表格显示虚拟机',
  column: { name: '名称', state: '状态', since: '状态变化' },
  select: '选择 {name}',
  selectAll: '全选',
  selection: '已选择的虚拟机',
  selected: '已选择 {count} 台',
  unselect: '取消选择',
  bulkFailed: '{total} 台中有 {count} 台未能执行。',
  noMatch: '没有符合条件的虚拟机',
  showAll: '显示全部虚拟机',
  empty: {
    title: '还没有虚拟机',
    text: '虚拟机是运行在这台电脑里的另一台完整电脑：可以从 ISO 安装系统、使用磁盘映像，也可以直接试用自带的小型 Linux。',
    first: '创建第一台虚拟机',
  },
} satisfies Same<typeof en>;
