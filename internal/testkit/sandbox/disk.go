//go:build linux

package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
)

// Disk is a small ext4 file system in an image file, mounted on Dir. Cut shows
// what a power cut would have left of it.
type Disk struct {
	Dir   string
	image string
}

// NewDisk makes and mounts a disk of so many MiB; its files lie below dir.
func NewDisk(dir string, mib int64) (*Disk, error) {
	if !Inside() {
		return nil, errOutside
	}
	image := filepath.Join(dir, "disk.img")
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(mib << 20); err != nil {
		return nil, err
	}
	if err := run(nil, "mkfs.ext4", "-q", "-F", image); err != nil {
		return nil, err
	}
	return mountDisk(image, filepath.Join(dir, "disk"))
}

// mountDisk mounts an image. The long commit interval means that only what a
// program synced itself is on the disk when the power goes, not what the kernel
// happened to write every five seconds. The kernel frees the loop device on
// umount, or when the sandbox ends (LO_FLAGS_AUTOCLEAR).
func mountDisk(image, dir string) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := run(nil, "mount", "-t", "ext4", "-o", "loop,commit=3600", image, dir); err != nil {
		return nil, err
	}
	return &Disk{Dir: dir, image: image}, nil
}

// Cut copies the disk as it is on the medium at this moment, with whatever is
// still in the kernel's memory lost, and mounts the copy, which replays its
// journal as after a power cut. Close the copy when done.
func (d *Disk) Cut() (*Disk, error) {
	dir, err := os.MkdirTemp(filepath.Dir(d.image), "cut-")
	if err != nil {
		return nil, err
	}
	image := filepath.Join(dir, "disk.img")
	if err := run(nil, "cp", "--sparse=always", d.image, image); err != nil {
		return nil, err
	}
	copied, err := mountDisk(image, filepath.Join(dir, "disk"))
	if err != nil {
		return nil, fmt.Errorf("sandbox: the disk after the power cut: %w", err)
	}
	return copied, nil
}

// Close unmounts the disk and removes its image.
func (d *Disk) Close() error {
	if err := run(nil, "umount", d.Dir); err != nil {
		return err
	}
	return os.Remove(d.image)
}
