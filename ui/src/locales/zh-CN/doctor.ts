import type { Same } from '../schema';
import type en from '../en/doctor';

export default {
  title: '诊断',
  checked: '检查于',
  again: '重新检查',
  copyReport: '复制报告',
  copyCommand: '复制命令',
  verdict: {
    ok: '一切正常。',
    warning: '可以使用，有 {count} 项限制。',
    failed: '有 {count} 项需要修复。',
  },
  group: { ok: '正常', warning: '可用，但有限制', failed: '需要修复' },
  status: { ok: '正常', warning: '有限制', failed: '需要修复' },
  check: {
    qemu: 'QEMU',
    qemu_img: '磁盘工具（qemu-img）',
    kvm: '硬件加速（KVM）',
    kvm_group: 'kvm 用户组',
    firmware: 'UEFI 固件（OVMF）',
    secure_boot: '安全启动固件',
    tpm: 'TPM（swtpm）',
    shared_folders: '共享文件夹（virtiofs）',
    passt: '快速网络（passt）',
    free_space: '可用空间',
    data_directory: '数据文件夹',
    runtime_directory: '运行时文件夹',
    log_directory: '日志文件夹',
    keychain: '钥匙串',
    configuration: '配置',
    demo_guest: '小型 Linux',
    user: '用户',
  },
  finding: {
    qemu: {
      ok: { sentence: '版本 {version}，位于 {path}' },
      missing: {
        sentence: '尚未安装 QEMU，无法启动任何虚拟机。',
        remedy: '请安装 qemu-system-x86 软件包，或在设置中指定其他 QEMU。',
      },
      too_old: { sentence: '版本 {version} 过旧。', remedy: '请安装 QEMU 7.2 或更新的版本。' },
      broken: {
        sentence: 'QEMU 已安装但无法工作：{reason}',
        remedy: '请重新安装，或在设置中指定其他 QEMU。',
      },
    },
    qemu_img: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装，无法创建或查看磁盘。',
        remedy: '请安装 qemu-utils 软件包。',
      },
    },
    kvm: {
      ok: { sentence: '由处理器直接运行虚拟机。' },
      no_device: {
        sentence: '本机没有 /dev/kvm，虚拟机只能由软件模拟运行，速度会慢很多。',
        remedy: '请在主板固件设置中开启虚拟化（VT-x 或 AMD-V），然后加载内核模块。',
      },
      no_permission: {
        sentence: '您没有使用 /dev/kvm 的权限，虚拟机只能由软件模拟运行，速度会慢很多。',
        remedy: '请加入 kvm 用户组，然后重新登录。',
      },
      guests_do_not_run: {
        sentence: '/dev/kvm 可以打开，但客户机无法在其上运行。虚拟机只能由软件模拟运行，速度会慢很多。',
        remedy: '如果本机自身就是虚拟机，请在其宿主机上允许嵌套虚拟化，否则请更新内核和固件。',
      },
    },
    kvm_group: {
      ok: { sentence: '您已在该用户组中。' },
      not_needed: { sentence: '在本机上无需加入该用户组。' },
      not_member: { sentence: '您不在该用户组中。', remedy: '请加入该用户组，然后重新登录。' },
      relogin: { sentence: '您已加入该用户组，但当前会话是在此之前开始的。', remedy: '请重新登录。' },
    },
    firmware: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装。使用 BIOS 的虚拟机不受影响。',
        remedy: '请安装 ovmf 软件包。',
      },
    },
    secure_boot: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装带密钥的安全启动固件。Windows 11 需要它。',
        remedy: '请安装 ovmf 软件包。',
      },
    },
    tpm: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装，因此虚拟机无法使用 TPM。Windows 11 需要它。',
        remedy: '请安装 swtpm 软件包。',
      },
    },
    shared_folders: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装 virtiofsd。文件夹可以通过 9p 共享，但速度较慢。',
        remedy: '请安装 virtiofsd 软件包。',
      },
      no_uidmap: {
        sentence: '此 virtiofsd 需要 uidmap 软件包。文件夹可以通过 9p 共享，但速度较慢。',
        remedy: '请安装 uidmap 软件包。',
      },
    },
    passt: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未安装。网卡将使用 QEMU 自带的网络，速度较慢。',
        remedy: '请安装 passt 软件包。',
      },
    },
    free_space: {
      ok: { sentence: '{path} 可用 {free}' },
      low: {
        sentence: '{path} 仅剩 {free}。随着数据写入，虚拟机的磁盘会需要更多空间。',
        remedy: '请释放一些空间，或更换数据文件夹的位置。',
      },
      full: {
        sentence: '{path} 仅剩 {free}。虚拟机一旦无法写入就会停止。',
        remedy: '请立即释放空间。',
      },
      unknown: {
        sentence: '无法得知 {path} 的可用空间。',
        remedy: '请检查该文件夹是否可读。',
      },
    },
    data_directory: {
      ok: { sentence: '虚拟机及其磁盘位于 {path}' },
      absent: { sentence: '{path} 会在需要时创建。' },
      not_writable: {
        sentence: '{path} 无法写入。',
        remedy: '请为自己添加写入权限，或使用其他文件夹。',
      },
      not_private: {
        sentence: '{path} 属于其他用户，或其他人可以写入。',
        remedy: '请取消其他人的写入权限。',
      },
    },
    runtime_directory: {
      ok: { sentence: '套接字位于 {path}' },
      fallback: {
        sentence: '当前会话没有自己的运行时文件夹，改用 {path}。',
        remedy: '请通过会设置 XDG_RUNTIME_DIR 的会话登录。',
      },
      too_long: {
        sentence: '{path} 太长，不能用于套接字。',
        remedy: '请将 XDG_RUNTIME_DIR 设为更短的路径。',
      },
      not_writable: {
        sentence: '{path} 无法写入。',
        remedy: '请重新登录以便系统创建它，或设置 XDG_RUNTIME_DIR。',
      },
      not_private: {
        sentence: '{path} 属于其他用户，或其他人可以写入。',
        remedy: '请删除它，voidVM 会重新创建。',
      },
    },
    log_directory: {
      ok: { sentence: '日志位于 {path}' },
      absent: { sentence: '{path} 会在需要时创建。' },
      not_writable: {
        sentence: '{path} 无法写入，因此不会记录日志。',
        remedy: '请为自己添加写入权限。',
      },
    },
    keychain: {
      ok: { sentence: '可以保存密钥。' },
      unavailable: {
        sentence: '没有可用的钥匙串，密钥保存在只有您能读取的文件中。',
        remedy: '可以安装并解锁 gnome-keyring 等钥匙串，也可以保持现状。',
      },
    },
    configuration: {
      ok: { sentence: '{path} 有效。' },
      none: { sentence: '没有配置文件，使用默认值。' },
      invalid: {
        sentence: '部分值无效，未被采用：\n{problems}',
        remedy: '请在 {path} 或环境变量中改正。',
      },
    },
    demo_guest: {
      ok: { sentence: '{path}' },
      missing: {
        sentence: '尚未准备好。从映像和 ISO 创建的虚拟机不受影响。',
        remedy: '可在源代码文件夹中运行“./dev guest”来准备。',
      },
    },
    user: {
      ok: { sentence: 'voidVM 以普通用户身份运行。' },
      root: {
        sentence: 'voidVM 以 root 身份运行，它的虚拟机也是如此：逃逸的客户机将完全控制本机。',
        remedy: '请以普通用户身份运行 voidVM，它不需要更高的权限。',
      },
    },
  },
} satisfies Same<typeof en>;
