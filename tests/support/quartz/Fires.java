import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Date;
import java.util.TimeZone;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.quartz.CronExpression;

/** What Quartz answers: a line "zone|after|count|expression" in, the fire times, "refused" or "hangs" out. */
public final class Fires {
    private static final long PATIENCE_MS = 3000;

    public static void main(String[] args) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] asked = line.split("\\|", 4);
            try {
                System.out.println(threads.submit(() -> answer(asked)).get(PATIENCE_MS, TimeUnit.MILLISECONDS));
            } catch (TimeoutException hanging) {
                System.out.println("hangs");
            }
        }
    }

    private static String answer(String[] asked) {
        StringBuilder found = new StringBuilder();
        try {
            CronExpression expression = new CronExpression(asked[3]);
            expression.setTimeZone(TimeZone.getTimeZone(asked[0]));
            Date after = new Date(Long.parseLong(asked[1]) * 1000);
            for (int left = Integer.parseInt(asked[2]); left > 0; left--) {
                after = expression.getTimeAfter(after);
                if (after == null) {
                    break;
                }
                found.append(found.length() == 0 ? "" : " ").append(after.getTime() / 1000);
            }
        } catch (Exception refused) {
            return "refused";
        }
        return found.toString();
    }
}
