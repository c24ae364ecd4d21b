/** How to start QEMU with the function served at `socket`; KERNEL and INITRD are the user's. */
export function qemuCommand(socket: string): string {
  const device = JSON.stringify({
    driver: 'vfio-user-pci',
    bus: 'rp0',
    socket: { type: 'unix', path: socket },
  });
  return `Start QEMU (11.1 or later: before, the IOMMU's options had other names) with

  qemu-system-x86_64 -M q35,memory-backend=ram -m 512 -nodefaults -display none -serial stdio \\
    -object memory-backend-memfd,id=ram,size=512M,share=on \\
    -device intel-iommu,intremap=on,device-iotlb=on,caching-mode=on,scalable-mode=on,fsts=on,svm=on,pasid-bits=20 \\
    -device pcie-root-port,id=rp0,chassis=1 \\
    -device '${device}' \\
    -kernel KERNEL -initrd INITRD -append 'console=ttyS0 intel_iommu=on,sm_on'

and look in the guest with: lspci -vvv -s 01:00.0

`;
}
