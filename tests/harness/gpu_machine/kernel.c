/* uname(2) with another release: the one in the file RELEASE_FILE. Loaded by /etc/ld.so.preload, for a container whose
   machine runs its distribution's own kernel: kmod, dkms, apt's hooks and Python all ask here. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

int uname(struct utsname *found)
{
	int status = (int)syscall(SYS_uname, found);
	int file = status ? -1 : (int)syscall(SYS_openat, AT_FDCWD, RELEASE_FILE, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return status;
	ssize_t size = read(file, found->release, sizeof(found->release) - 1);
	close(file);
	if (size < 0)
		size = 0;
	found->release[size] = 0;
	found->release[strcspn(found->release, "\n")] = 0;
	return 0;
}
