package retcode

// detailZH holds the Chinese wording of details, by their English format. The
// verbs must be the same and in the same order, or be numbered (%[1]s). A test
// reads the project's source and fails for a format that is missing here.
var detailZH = map[string]string{
	"%s is %s, which does not allow %s": "%s 的状态为 %s，不允许执行 %s",
	"%s is destroyed":                   "%s 已被销毁",
	"VMID %s":                           "VMID %s",
}
