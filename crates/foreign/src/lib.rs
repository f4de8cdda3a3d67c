//! Machines of other programs: OVF, libvirt, quickemu, VirtualBox, VMware.
