// pixpro_driver_failure is why the driver could not be opened, "" if it was.
const char *pixpro_driver_failure(void);
// pixpro_driver_start is cuInit, and pixpro_driver_error_name what the driver
// calls a status.
int pixpro_driver_start(void);
const char *pixpro_driver_error_name(int status);
